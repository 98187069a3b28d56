-- Requests of which no two have the same target or the same line: for wrk, after the headers given by -H.
-- A proxy that remembers lines it has seen finds none of them, ever.
local pieces = {}
local run = os.time() .. "."
local count = 0

function init(arguments)
   for name, value in pairs(wrk.headers) do
      if name ~= "Host" and name ~= "Connection" then
         wrk.headers[name] = value .. "; n=@"
      end
   end
   local template = wrk.format(nil, wrk.path .. "?n=@")
   for piece in template:gmatch("[^@]+") do
      pieces[#pieces + 1] = piece
   end
end

function request()
   count = count + 1
   return table.concat(pieces, run .. count)
end
