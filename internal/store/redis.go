package store

// RedisSwap stores ARGV[1] for ARGV[2] ms in place of ARGV[3], which is nil when
// the key must be absent: GET returns false then. Send it by EVAL, which more
// servers and proxies have than EVALSHA.
const RedisSwap = `if redis.call('GET', KEYS[1]) ~= (ARGV[3] or false) then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1`
