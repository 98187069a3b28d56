-- A mix as it may come in from outside: 70 % small GET, 20 % GET of 16 KiB, 8 % POST of 4 KiB, 2 % GET of 1 MB, by six
-- sorts of clients and a thousand users with cookies or tokens of their own; half of the targets have a query that
-- differs. The same 5,000 requests in the same order every time.
local requests = {}
local count = 0

local function agents(user)
   local token = string.format("%08x%08x", user * 2654435761 % 4294967296, user * 40503 % 4294967296)
   return {
      {},
      { ["User-Agent"] = "curl/8.9.1", ["Accept"] = "*/*" },
      { ["User-Agent"] = "python-requests/2.32.3", ["Accept-Encoding"] = "gzip, deflate", ["Accept"] = "*/*",
        ["Connection"] = "keep-alive" },
      { ["User-Agent"] = "okhttp/4.12.0", ["Accept"] = "application/json", ["Accept-Encoding"] = "gzip",
        ["Authorization"] = "Bearer " .. token .. token, ["X-Device"] = token, ["X-App-Version"] = "5.1" },
      { ["User-Agent"] = "Mozilla/5.0 (X11; Linux x86_64; rv:141.0) Gecko/20100101 Firefox/141.0",
        ["Accept"] = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
        ["Accept-Language"] = "en-US,en;q=0.5", ["Accept-Encoding"] = "gzip, deflate, br, zstd",
        ["Referer"] = "https://www.example.org/user/" .. user, ["Cookie"] = "session=" .. token .. "; theme=dark",
        ["Sec-Fetch-Dest"] = "document", ["Sec-Fetch-Mode"] = "navigate", ["Sec-Fetch-Site"] = "same-origin",
        ["Upgrade-Insecure-Requests"] = "1", ["Priority"] = "u=0, i", ["Connection"] = "keep-alive" },
      { ["User-Agent"] = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 Safari/604.1",
        ["Accept"] = "*/*", ["Accept-Language"] = "de-DE,de;q=0.9", ["Accept-Encoding"] = "gzip, deflate, br",
        ["Cookie"] = "sid=" .. token .. "; consent=1", ["If-None-Match"] = '"' .. token .. '"',
        ["Referer"] = "https://m.example.org/", ["Connection"] = "keep-alive" },
   }
end

function init(arguments)
   local prefix = wrk.path:gsub("/small$", "")
   local body = string.rep("x", 4096)
   local host = wrk.headers["Host"]
   math.randomseed(20261121)
   for number = 1, 5000 do
      local user = math.random(1000)
      local sorts = agents(user)
      local headers = sorts[math.random(#sorts)]
      headers["Host"] = host
      local query = number % 2 == 0 and ("?page=" .. math.random(100) .. "&user=" .. user) or ""
      local die = (number * 37) % 100
      if die < 70 then
         requests[number] = wrk.format("GET", prefix .. "/small" .. query, headers)
      elseif die < 90 then
         requests[number] = wrk.format("GET", prefix .. "/16k" .. query, headers)
      elseif die < 98 then
         headers["Content-Type"] = "application/x-www-form-urlencoded"
         requests[number] = wrk.format("POST", prefix .. "/post" .. query, headers, body)
      else
         requests[number] = wrk.format("GET", prefix .. "/1m" .. query, headers)
      end
   end
end

function request()
   count = count % #requests + 1
   return requests[count]
end
