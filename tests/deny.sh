#!/usr/bin/env bash
# Licences, bans and sources always; security advisories where their database can be fetched.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
deny=.tools/bin/cargo-deny
"$deny" --workspace --locked check licenses bans sources
if timeout 60 "$deny" --workspace --locked fetch db >/dev/null 2>&1; then
    echo "deny: the advisory database is there: checking advisories too"
    "$deny" --workspace --locked check advisories
else
    echo "deny: NO advisory database can be fetched from here: advisories were not checked"
fi
