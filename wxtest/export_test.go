package wxtest

// ForgetLate is what Server.Close does, for a bubble that can have no Server.
func (p *Platform) ForgetLate() { p.forgetLate() }
