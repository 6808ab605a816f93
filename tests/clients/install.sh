#!/bin/sh
# What tests of clients and pages need beside Python: Node.js and Chromium, Debian's own, and from npm the two
# JavaScript clients and axe-core. Does only what is missing, and says so in a line each; where something cannot be had, it says that too
# and the tests that need it skip by name.
set -u
cd "$(dirname "$0")"
LOG=install.log
MARK=node_modules/.installed

as_root() {
	if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo -n "$@"; fi
}

missing=''
command -v node > /dev/null || missing="$missing nodejs"
command -v npm > /dev/null || missing="$missing npm"
command -v chromium > /dev/null || missing="$missing chromium"
if [ -n "$missing" ]; then
	if ! command -v apt-get > /dev/null; then
		echo "clients:$missing missing and there is no apt-get; the tests that need them are skipped"
	elif ! as_root true 2> /dev/null; then
		echo "clients:$missing missing and only root may install them; the tests that need them are skipped"
	else
		echo "clients: installing$missing by apt (the first time some 100 MB, a minute or two)"
		{ as_root env DEBIAN_FRONTEND=noninteractive apt-get update -q \
			&& as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $missing; } \
			> "$LOG" 2>&1 < /dev/null || echo "clients: apt failed, see tests/clients/$LOG"
	fi
fi

if [ -e "$MARK" ] && [ ! package-lock.json -nt "$MARK" ]; then exit 0; fi
command -v npm > /dev/null || exit 0
echo 'clients: installing the JavaScript clients by npm'
if npm ci --ignore-scripts --no-progress > "$LOG" 2>&1 < /dev/null; then
	touch "$MARK"
else
	echo "clients: npm failed, see tests/clients/$LOG; the tests that need them are skipped"
fi
