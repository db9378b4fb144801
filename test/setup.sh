#!/bin/sh
# Makes a Debian machine ready for `make test`, and says what to do where it
# cannot. On a machine that is ready it changes nothing.
#
#     test/setup.sh [COMMAND:PACKAGE ...]
#
# The tests need Go, a kernel in which this user can make namespaces (root can),
# and what every Debian has. Further commands, such as protoc:protobuf-compiler,
# are installed by apt if they are missing; a command may be a path. A daemon that
# comes so is not started, now or at the next boot: the tests run it in namespaces
# of their own.
set -eu
PATH=$PATH:/usr/sbin:/sbin

fail() {
	echo "test/setup.sh: $*" >&2
	exit 1
}

command -v go >/dev/null || fail "Go is missing: https://go.dev/doc/install"

missing=
for need in setsid:util-linux mktemp:coreutils grep:grep "$@"; do
	command -v "${need%%:*}" >/dev/null || missing="$missing ${need#*:}"
done
if [ -n "$missing" ]; then
	command -v apt-get >/dev/null || fail "install what Debian has in:$missing"
	as_root=
	if [ "$(id -u)" != 0 ]; then
		as_root=sudo
		command -v sudo >/dev/null || fail "as root, run: apt-get install$missing"
	fi
	# Debian asks this file whether it may start a service.
	policy=/usr/sbin/policy-rc.d
	if [ ! -e $policy ]; then
		trap '$as_root rm -f $policy' EXIT
		printf '#!/bin/sh\nexit 101\n' | $as_root tee $policy >/dev/null
		$as_root chmod 755 $policy
	fi
	# shellcheck disable=SC2086 # a list of words
	{ $as_root apt-get update -q && $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $missing; } ||
		fail "apt could not install:$missing"
	for service in keepalived frr; do
		case " $missing " in *" $service "*)
			$as_root systemctl disable $service 2>/dev/null || true ;; # there may be no systemd
		esac
	done
fi

if [ "$(id -u)" != 0 ] && ! unshare --user --map-root-user --net true 2>/dev/null; then
	fail "this user cannot make namespaces. Run as root, or allow it:
  sysctl kernel.unprivileged_userns_clone=1 user.max_user_namespaces=15000
  sysctl kernel.apparmor_restrict_unprivileged_userns=0   # Ubuntu 24.04 and later"
fi
