-- Put candles of one symbol into their slots, each only over the same or an older open time.
-- KEYS: 1 the symbol's hash.  ARGV: 1 time to live in seconds, 2.. candles as JSON, open_time first.
-- Returns how many slots changed and how many hold a newer candle than the one offered.
-- A symbol whose candles are all older leaves the time to live alone: a backfill of old days must
-- not keep a symbol alive that has stopped.

local OPEN_TIME = '^{"open_time":(%d+)'

local open_times, slots = {}, {}
for i = 2, #ARGV do
  local open_time = tonumber(string.match(ARGV[i], OPEN_TIME))
  open_times[i - 1] = open_time
  slots[i - 1] = math.floor(open_time / 60000) % 15
end

local stored = redis.call('HMGET', KEYS[1], unpack(slots))
local changes, kept_newer = {}, 0
for i, slot in ipairs(slots) do
  local held, offered = stored[i], ARGV[i + 1]
  -- An unchanged candle is not written again, or each minute would append fifteen to the server's
  -- file in place of one.
  if held ~= offered then
    local held_open_time = held and tonumber(string.match(held, OPEN_TIME))
    if held_open_time and held_open_time > open_times[i] then
      kept_newer = kept_newer + 1
    else
      changes[#changes + 1] = slot
      changes[#changes + 1] = offered
    end
  end
end

if #changes > 0 then
  redis.call('HSET', KEYS[1], unpack(changes))
end
if kept_newer < #slots then
  redis.call('EXPIRE', KEYS[1], ARGV[1])
end
return {#changes / 2, kept_newer}
