-- Run by wrk for every round: shapes the request, and prints the result as one line of JSON.
-- wrk ... -s wrk.lua URL -- UPLOAD_BYTES [varied]

local agents = {
   "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36",
   "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:145.0) Gecko/20100101 Firefox/145.0",
   "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/26.0 Safari/605.1.15",
}

-- What browsers send, no two requests alike in path, cookie and referrer.
local function vary()
   local texts, last = {}, 0
   for i = 1, 4096 do
      local id = math.random(1e9)
      texts[i] = wrk.format("GET", "/page/" .. i .. "?q=" .. id, {
         ["Host"] = wrk.headers["Host"],
         ["User-Agent"] = agents[i % #agents + 1],
         ["Accept"] = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8",
         ["Accept-Language"] = "pt-BR,pt;q=0.9,en;q=0.8",
         ["Accept-Encoding"] = "gzip, deflate, br, zstd",
         ["Referer"] = "https://shop.example/page/" .. id,
         ["Cookie"] = "session=" .. id .. "; seen=" .. i,
         ["Sec-Fetch-Mode"] = "navigate",
         ["Sec-Fetch-Site"] = "same-origin",
      })
   end
   request = function()
      last = last % #texts + 1
      return texts[last]
   end
end

function init(args)
   local upload_bytes = tonumber(args[1])
   if upload_bytes > 0 then
      wrk.method = "POST"
      wrk.body = string.rep("x", upload_bytes)
      wrk.headers["Content-Type"] = "application/octet-stream"
   end
   if args[2] == "varied" then
      vary()
   end
end

function done(summary, latency, requests)
   local e = summary.errors
   io.write(string.format(
      'RESULT {"requests": %d, "duration_us": %d, "p50_us": %d, "p99_us": %d, "errors": %d}\n',
      summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
      e.connect + e.read + e.write + e.status + e.timeout))
end
