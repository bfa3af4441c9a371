-- Remove a lease that still belongs to its holder.
-- KEYS: 1 lease.  ARGV: 1 holder.
-- Returns how many leases were removed.

if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
return redis.call('DEL', KEYS[1])
