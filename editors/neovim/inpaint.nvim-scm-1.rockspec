rockspec_format = "3.0"
package = "inpaint.nvim"
version = "scm-1"
description = {
  summary = "Code completion that fills in the middle at the cursor, by a language model on your own machine",
  labels = { "neovim", "completion" },
  homepage = "https://github.com/inpaint/inpaint.nvim",
  license = "Apache-2.0",
}
source = { url = "git+https://github.com/inpaint/inpaint.nvim" }
dependencies = { "lua >= 5.1" }
build = { type = "builtin", copy_directories = { "doc", "lsp" } }
