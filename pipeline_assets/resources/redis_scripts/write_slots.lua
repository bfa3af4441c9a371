-- Put candles of one symbol into their slots, each only over the same or an older open time.
-- KEYS: 1 the symbol's slots, 2 its indicator state.
-- ARGV: 1 time to live of the slots in seconds, 2 that of a mark, 3 the latest open time there can be (ms,
--       '' if it is not known), 4.. candles as JSON, open_time first.
-- Returns how many slots changed, how many hold a newer candle than the one offered, and how many held one
-- that is later than the latest there can be.
-- A symbol whose candles are all older leaves the time to live alone: a backfill of old days must
-- not keep a symbol alive that has stopped.
--
-- Marks the indicator state when a candle may already have been folded into it, or passed over: it
-- replaces one of the same open time, or comes when a newer one is there. `changed` is the oldest
-- such open time. `changes` counts them, so that who read state and slots before can tell.

local OPEN_TIME = '^{"open_time":(%d+)'

local function open_time_of(value)
  return value and tonumber(string.match(value, OPEN_TIME))
end

local FIRST = 4
local open_times, slots = {}, {}
local latest = tonumber(ARGV[3])
for i = FIRST, #ARGV do
  local open_time = open_time_of(ARGV[i])
  open_times[i - FIRST + 1] = open_time
  slots[i - FIRST + 1] = math.floor(open_time / 60000) % 15
  -- A candle that the exchange gave is not later than it can be, whatever a clock says.
  latest = latest and math.max(latest, open_time)
end

-- What a wrong clock left behind would never be overwritten: it is newer than all that will come. An
-- indicator state that has folded it takes no further candle either, and is built again where it is gone.
local impossible = {}
if latest then
  local held = redis.call('HGETALL', KEYS[1])
  for i = 1, #held, 2 do
    local held_open_time = open_time_of(held[i + 1])
    if held_open_time and held_open_time > latest then
      impossible[#impossible + 1] = held[i]
    end
  end
  if #impossible > 0 then
    redis.call('HDEL', KEYS[1], unpack(impossible))
  end
  local folded = tonumber(redis.call('HGET', KEYS[2], 'open_time'))
  if folded and folded > latest then
    redis.call('DEL', KEYS[2])
  end
end

local stored = redis.call('HMGET', KEYS[1], unpack(slots))
local changes, kept_newer = {}, 0
local oldest_new, oldest_marked
for i, slot in ipairs(slots) do
  local held, offered = stored[i], ARGV[i + FIRST - 1]
  -- An unchanged candle is not written again, or each minute would append fifteen to the server's
  -- file in place of one.
  if held ~= offered then
    local held_open_time = open_time_of(held)
    if held_open_time and held_open_time > open_times[i] then
      kept_newer = kept_newer + 1
    else
      changes[#changes + 1] = slot
      changes[#changes + 1] = offered
      if held_open_time == open_times[i] then
        oldest_marked = math.min(oldest_marked or open_times[i], open_times[i])
      else
        oldest_new = math.min(oldest_new or open_times[i], open_times[i])
      end
    end
  end
end

if oldest_new then
  for _, value in ipairs(redis.call('HVALS', KEYS[1])) do
    local held_open_time = open_time_of(value)
    if held_open_time and held_open_time > oldest_new then
      oldest_marked = math.min(oldest_marked or oldest_new, oldest_new)
      break
    end
  end
end

if #changes > 0 then
  redis.call('HSET', KEYS[1], unpack(changes))
end
if oldest_marked then
  local before = tonumber(redis.call('HGET', KEYS[2], 'changed'))
  local oldest = math.min(before or oldest_marked, oldest_marked)
  redis.call('HSET', KEYS[2], 'changed', string.format('%d', oldest))
  redis.call('HINCRBY', KEYS[2], 'changes', 1)
  if redis.call('TTL', KEYS[2]) < 0 then
    redis.call('EXPIRE', KEYS[2], ARGV[2])
  end
end
if kept_newer < #slots then
  redis.call('EXPIRE', KEYS[1], ARGV[1])
end
return {#changes / 2, kept_newer, #impossible}
