package wxtest

// ForgetLate does what Server.Close does, for a bubble that cannot have a Server.
func (p *Platform) ForgetLate() { p.forgetLate() }
