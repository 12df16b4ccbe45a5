-- wrk: POST /v1/jobs, each for another storage account and under another Idempotency-Key, from the body in the file
-- that BODY names, where the word `stpaymentsprod01` is the account's name. MODE=same sends the body as it is, under one
-- key. One line at the end that a program can read.
local file = assert(io.open(os.getenv("BODY")))
local body = file:read("*a")
file:close()
local mode = os.getenv("MODE") or "distinct"
local run = os.getenv("RUN") or "0"
local headers = { ["Content-Type"] = "application/json" }
local before, after = body:match("^(.-)stpaymentsprod01(.*)$")
local number = 0

if mode == "same" then
  headers["Idempotency-Key"] = "same-" .. run
end
local same = nil

function request()
  if mode == "same" then
    same = same or wrk.format("POST", nil, headers, body)
    return same
  end
  number = number + 1
  local name = string.format("st%sx%x", run, number)
  headers["Idempotency-Key"] = name
  return wrk.format("POST", nil, headers, before .. name .. after)
end

function done(summary, latency, requests)
  local errors = summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.status + summary.errors.timeout
  io.write(string.format("WRK\t%.0f\t%.2f\t%.2f\t%.2f\t%d\n",
    summary.requests / (summary.duration / 1e6), latency:percentile(50) / 1e3,
    latency:percentile(99) / 1e3, latency.max / 1e3, errors))
end
