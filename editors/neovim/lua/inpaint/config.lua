--- The options of setup(): their defaults, and what is wrong with the ones given.
local M = {}

M.defaults = {
  cmd = {}, -- how to start the language server; empty: the first that is found
  -- where to complete: what `small` has learned
  filetypes = { "python", "javascript", "javascriptreact", "typescript", "typescriptreact", "go", "rust" },
  enabled = true, -- false: only after `:Inpaint enable`
  debounce_ms = 0, -- how long to wait after a key before asking
  display = "always", -- ghost text; "mark": a mark until asked by key; "key": nothing until then
  menu = "hide", -- ghost text while a completion menu is open: "hide" or "keep"
  next_edit = false, -- whether to offer a change that was made twice at the next place that is alike
  next_edit_keys = { go = "<M-l>", reject = "<M-L>" }, -- in normal mode; false maps nothing
  keys = { -- in insert mode; false maps nothing
    accept = "<Tab>",
    accept_word = "<M-Right>",
    accept_line = "<M-C-Right>",
    next = "<M-]>",
    previous = "<M-[>",
    dismiss = "<C-]>",
    trigger = "<M-Bslash>",
  },
  server = {}, -- the server's own options, such as show
}
M.options = M.defaults
local CHOICES = { display = { "always", "mark", "key" }, menu = { "hide", "keep" } }

--- What is wrong with `given`, a sentence each.
local function problems(given, defaults, path)
  local found = {}
  for name, value in pairs(given) do
    local default = defaults[name]
    if default == nil then
      table.insert(found, ("Unknown option %s%s."):format(path, name))
    elseif type(value) ~= type(default) and not (path:match("keys%.$") and value == false) then
      table.insert(found, ("Option %s%s must be a %s."):format(path, name, type(default)))
    elseif name:match("keys$") then
      vim.list_extend(found, problems(value, default, name .. "."))
    elseif CHOICES[name] and not vim.tbl_contains(CHOICES[name], value) then
      table.insert(found, ('Option %s must be "%s".'):format(name, table.concat(CHOICES[name], '" or "')))
    end
  end
  return found
end

--- Take over the options of the user; where one is wrong, say so and keep the defaults of all.
function M.set(given)
  local found = problems(given or {}, M.defaults, "")
  for _, problem in ipairs(found) do
    vim.notify("Inpaint: " .. problem .. " See :help inpaint.", vim.log.levels.ERROR)
  end
  M.options = vim.tbl_deep_extend("force", M.defaults, #found == 0 and given or {})
end

return M
