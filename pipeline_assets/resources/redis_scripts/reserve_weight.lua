-- Grant as much request weight as priorities and limit allow, as one step of the server.
-- KEYS: 1 this minute, 2 the minute before, 3 expected demand, 4 blocked until.
-- ARGV: 1 now (ms), 2 priority (the greatest goes first), 3 wanted, 4 minimum, 5 later,
--       6 capacity of a minute, 7 greatest priority, 8 seconds to keep a minute,
--       9 a name of this call's own.
-- Returns the weight granted, and the moment (ms) at which a block ends or 0.
--
-- A call whose answer was lost is repeated under the same name, and granted the same again: the first
-- one may have taken effect. A call that was granted nothing may be decided anew.
--
-- A minute is a hash: `used`, `taken:P` (granted to priority P), `waiting:P` (what P still wanted
-- after it last asked), `call:N` (granted to the call of the name N). What P is owed in this minute, and lower priorities leave alone, is the
-- greater of
--   what it waits for: said in this minute, or in the one before and not taken since;
--   what its ticks are expected to use and have not taken yet: due in the minute that begins their
--   period and in the following one, since a large tick may spread over two.

local now, priority, wanted = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local minimum, later, capacity = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local greatest, seconds_kept = tonumber(ARGV[7]), ARGV[8]
local minute = math.floor(now / 60000)
local call = 'call:' .. ARGV[9]

local granted_before = redis.call('HGET', KEYS[1], call)
if granted_before then
  return {tonumber(granted_before), 0}
end

local function held(key, field)
  return tonumber(redis.call('HGET', key, field) or '0')
end

local function waiting(class)
  local said = redis.call('HGET', KEYS[1], 'waiting:' .. class)
  return tonumber(said or redis.call('HGET', KEYS[2], 'waiting:' .. class) or '0')
end

-- For each priority the demand that is due in this minute, and whether it was in the last one.
local function demand_due()
  local due = {}
  local all = redis.call('HGETALL', KEYS[3])
  for i = 1, #all, 2 do
    local class, period = string.match(all[i], '^(%d+):(%d+)$')
    local weight, said = string.match(all[i + 1], '^(%d+):(%d+)$')
    class, period, weight, said = tonumber(class), tonumber(period), tonumber(weight), tonumber(said)
    local into_period, age = minute % period, minute - said
    if into_period <= 1 and age >= 0 and age <= 3 * period then
      due[class] = due[class] or {weight = 0, began_before = false}
      due[class].weight = due[class].weight + weight
      due[class].began_before = due[class].began_before or into_period == 1
    end
  end
  return due
end

local due, owed_to_higher = demand_due(), 0
for class = priority + 1, greatest do
  local owed = waiting(class)
  if due[class] then
    local taken = held(KEYS[1], 'taken:' .. class)
    if due[class].began_before then
      taken = taken + held(KEYS[2], 'taken:' .. class)
    end
    owed = math.max(owed, due[class].weight - taken)
  end
  owed_to_higher = owed_to_higher + owed
end

local blocked_until = tonumber(redis.call('GET', KEYS[4]) or '0')
local used = held(KEYS[1], 'used')
local granted = math.min(wanted, capacity - used - owed_to_higher)
if granted < minimum or blocked_until > now then
  granted = 0
end

local still_wanted = math.max(waiting(priority) - granted, wanted - granted + later)
redis.call('HSET', KEYS[1], 'waiting:' .. priority, still_wanted)
if granted > 0 then
  redis.call('HINCRBY', KEYS[1], 'used', granted)
  redis.call('HINCRBY', KEYS[1], 'taken:' .. priority, granted)
  redis.call('HSET', KEYS[1], call, granted)
end
redis.call('EXPIRE', KEYS[1], seconds_kept)
return {granted, blocked_until > now and blocked_until or 0}
