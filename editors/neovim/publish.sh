#!/usr/bin/env bash
# publish.sh REMOTE: push this folder, as of the current commit, as the branch main of a repository of its own, in the
# layout that plugin managers and luarocks expect.
set -euo pipefail
cd "$(git rev-parse --show-toplevel)"
commit=$(git subtree split --prefix editors/neovim)
git push "$1" "$commit":refs/heads/main
