--- :Inpaint stats: what the completions were worth, in a window of its own.
local server = require("inpaint.server")

local M = {}
local WIDTH, DAYS = 40, 14
local ROW = "%-16s %6s %9s %6s %17s %12s"

local function bar(value, most)
  return ("█"):rep(most > 0 and math.ceil(WIDTH * value / most) or 0)
end

--- Sums of rows by one of their fields, as { name, shown, accepted, characters, latencies } in the order of the rows.
local function sums(rows, field)
  local names, by = {}, {}
  for _, row in ipairs(rows) do
    local name = field and row[field] or "all"
    if not by[name] then
      by[name] = { name = name, shown = 0, accepted = 0, characters = 0, latencies = {} }
      table.insert(names, name)
    end
    local sum = by[name]
    sum.shown, sum.characters = sum.shown + row.counts.shown, sum.characters + row.characters
    sum.accepted = sum.accepted + row.counts.accepted + row.counts.partlyAccepted
    for bar, number in ipairs(row.latencies) do
      sum.latencies[bar] = (sum.latencies[bar] or 0) + number
    end
  end
  return vim.tbl_map(function(name)
    return by[name]
  end, names)
end

--- The name of a bar of the histogram.
local function up_to(bounds, number)
  return bounds[number] and ("to %d ms"):format(bounds[number]) or ("over %d ms"):format(bounds[#bounds])
end

--- The bar by which half of them have come.
local function median(histogram)
  local total, so_far = 0, 0
  for _, number in ipairs(histogram) do
    total = total + number
  end
  for bar, number in ipairs(histogram) do
    so_far = so_far + number
    if 2 * so_far >= total then
      return bar
    end
  end
end

--- The lines of the page.
---@return string[]
function M.lines(said)
  local days, all = sums(said.days, "day"), sums(said.days)
  local function row(sum)
    local ratio = sum.shown > 0 and ("%.0f %%"):format(100 * sum.accepted / sum.shown) or ""
    local half = up_to(said.bounds, median(sum.latencies))
    return ROW:format(sum.name, sum.shown, sum.accepted, ratio, sum.characters, half)
  end
  local lines = { ROW:format("", "shown", "accepted", "ratio", "characters saved", "half took") }
  vim.list_extend(lines, vim.tbl_map(row, all))
  vim.list_extend(lines, { "", "By language" })
  vim.list_extend(lines, vim.tbl_map(row, sums(said.days, "language")))
  vim.list_extend(lines, { "", "By day" })
  vim.list_extend(lines, vim.tbl_map(row, vim.list_slice(days, math.max(1, #days - DAYS + 1))))
  vim.list_extend(lines, { "", "How long they took" })
  local latencies = all[1] and all[1].latencies or {}
  for bucket, number in ipairs(latencies) do
    local name = up_to(said.bounds, bucket)
    table.insert(lines, ("%-11s %5d %s"):format(name, number, bar(number, math.max(unpack(latencies)))))
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
