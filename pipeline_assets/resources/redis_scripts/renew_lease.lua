-- Extend a lease that still belongs to its holder, by the server's clock.
-- KEYS: 1 lease.  ARGV: 1 holder, 2 milliseconds it lives from now on.
-- Returns 1, or 0 if the lease has ended or belongs to another holder.

if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
