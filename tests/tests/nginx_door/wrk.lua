-- Counts what wrk was answered, and says it in one line.
local threads = {}

function setup(thread)
    table.insert(threads, thread)
end

function init()
    admitted, limited, other = 0, 0, 0
end

function response(status)
    if status == 200 then
        admitted = admitted + 1
    elseif status == 429 then
        limited = limited + 1
    else
        other = other + 1
    end
end

function done(summary, latency)
    local sums = { admitted = 0, limited = 0, other = 0 }
    for _, thread in ipairs(threads) do
        for name in pairs(sums) do
            sums[name] = sums[name] + thread:get(name)
        end
    end
    local errors = summary.errors
    local broken = errors.connect + errors.read + errors.write + errors.timeout
    io.write(string.format("counted %d %d %d %d %d %d\n", sums.admitted, sums.limited, sums.other, broken,
        latency:percentile(50), latency:percentile(99)))
end
