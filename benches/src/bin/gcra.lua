-- What people run in Redis where the module redis-cell is not: the same answers as CL.THROTTLE, by the server's clock.
-- KEYS[1] the key, ARGV max_burst, count, period.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local interval = math.floor(ARGV[3] * 1000000 / ARGV[2])
local tolerance = interval * (ARGV[1] + 1)
local tat = tonumber(redis.call('GET', KEYS[1]) or now)
if tat < now then tat = now end
local new = tat + interval
local ahead = new - tolerance - now
local limited, retry, left = 0, -1, 0
if ahead > 0 then
    limited, retry, left = 1, math.ceil(ahead / 1000000), tat - now
else
    left = new - now
    redis.call('SET', KEYS[1], string.format('%d', new), 'PX', math.ceil(left / 1000))
end
return {limited, ARGV[1] + 1, math.floor((tolerance - left) / interval), retry, math.ceil(left / 1000000)}
