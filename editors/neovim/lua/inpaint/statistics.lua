--- :Inpaint stats: what the completions were worth, in a window of its own.
local server = require("inpaint.server")

local M = {}
local WIDTH, DAYS = 40, 14

local function bar(value, most)
  return ("█"):rep(most > 0 and math.ceil(WIDTH * value / most) or 0)
end

--- Sums of rows by one of their fields, as { name, shown, accepted, characters } in the order of the rows.
local function sums(rows, field)
  local names, by = {}, {}
  for _, row in ipairs(rows) do
    local name = field and row[field] or "all"
    if not by[name] then
      by[name] = { name = name, shown = 0, accepted = 0, characters = 0 }
      table.insert(names, name)
    end
    local sum = by[name]
    sum.shown, sum.characters = sum.shown + row.counts.shown, sum.characters + row.characters
    sum.accepted = sum.accepted + row.counts.accepted + row.counts.partlyAccepted
  end
  return vim.tbl_map(function(name)
    return by[name]
  end, names)
end

local function sentence(sum)
  local ratio = sum.shown > 0 and 100 * sum.accepted / sum.shown or 0
  local text = "%-12s %5d shown, %5d accepted (%2.0f %%), %6d characters saved"
  return text:format(sum.name, sum.shown, sum.accepted, ratio, sum.characters)
end

--- The lines of the page.
---@return string[]
function M.lines(said)
  local days = sums(said.days, "day")
  local lines = vim.tbl_map(sentence, sums(said.days))
  vim.list_extend(lines, { "", "By language" })
  vim.list_extend(lines, vim.tbl_map(sentence, sums(said.days, "language")))
  vim.list_extend(lines, { "", "By day" })
  vim.list_extend(lines, vim.tbl_map(sentence, vim.list_slice(days, math.max(1, #days - DAYS + 1))))
  vim.list_extend(lines, { "", "Milliseconds to a completion" })
  local latencies = {}
  for _, row in ipairs(said.days) do
    for bucket, number in ipairs(row.latencies) do
      latencies[bucket] = (latencies[bucket] or 0) + number
    end
  end
  for bucket, number in ipairs(latencies) do
    local bound = said.bounds[bucket]
    local name = bound and ("to %d"):format(bound) or ("over %d"):format(said.bounds[#said.bounds])
    table.insert(lines, ("%-9s %5d %s"):format(name, number, bar(number, math.max(unpack(latencies)))))
  end
  return lines
end

function M.show()
  local client = server.client()
  if not client then
    return server.say("no server runs, so there are no figures")
  end
  server.call(client, "request", "inpaint/statistics", vim.NIL, function(_, said)
    vim.lsp.util.open_floating_preview(M.lines(said), "", { border = "rounded", focus_id = "inpaint" })
  end)
end

function M.reset()
  local client = server.client()
  if client then
    server.call(client, "request", "inpaint/resetStatistics", vim.NIL, function()
      server.say("the figures are forgotten")
    end)
  end
end

return M
