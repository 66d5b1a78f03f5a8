# `make setup` installs what building, labs and tests need on a fresh Debian 12 or 13, as root.
# The Rust toolchain is not its business.

.PHONY: setup
setup:
	@sh scripts/setup.sh
