-- Run by wrk for every round: shapes the request, and prints the result as one line of JSON.
-- wrk ... -s wrk.lua URL -- UPLOAD_BYTES

function init(args)
   local upload_bytes = tonumber(args[1])
   if upload_bytes > 0 then
      wrk.method = "POST"
      wrk.body = string.rep("x", upload_bytes)
      wrk.headers["Content-Type"] = "application/octet-stream"
   end
end

function done(summary, latency, requests)
   local e = summary.errors
   io.write(string.format(
      'RESULT {"requests": %d, "duration_us": %d, "p50_us": %d, "p99_us": %d, "errors": %d}\n',
      summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
      e.connect + e.read + e.write + e.status + e.timeout))
end
