# Packages. The Makefile includes this file.
#
# Two runs over one commit give the same bytes: the instant in every package is SOURCE_DATE_EPOCH (the commit's, if it is not set), binaries are
# built with -trimpath, and entries are in the order of their names.

# Asked of git once, and only when a package is made.
SOURCE_DATE_EPOCH ?= $(eval SOURCE_DATE_EPOCH := $(shell git log -1 --format=%ct))$(SOURCE_DATE_EPOCH)
VERSION           ?= $(eval VERSION := $(shell packaging/version))$(VERSION)

PACKAGES := dist/packages
STAGING  := dist/staging
PACK     := $(STAGING)/pack
ARCHES   := amd64 arm64

.PHONY: package
package: package-app package-agent package-tool ## what is installed: the function app's zip, deb and rpm, SBOMs, checksums
	cd $(PACKAGES) && rm -f SHA256SUMS && LC_ALL=C sha256sum -- * > SHA256SUMS

.PHONY: package-clean
package-clean:
	rm -rf $(PACKAGES) $(STAGING)
	mkdir -p $(PACKAGES) $(STAGING)
	$(GO) build -o $(PACK) ./packaging/pack

.PHONY: package-app
package-app: package-clean
	$(MAKE) --no-print-directory stage APP=$(STAGING)/app GOOS=linux GOARCH=amd64
	$(PACK) zip -epoch $(SOURCE_DATE_EPOCH) -o $(PACKAGES)/pointsman-functions.zip $(STAGING)/app
	$(PACK) sbom -epoch $(SOURCE_DATE_EPOCH) -o $(PACKAGES)/pointsman-functions.cdx.json $(STAGING)/app/pointsman-handler

.PHONY: package-agent
package-agent: package-clean
	gzip -9n < packaging/man/pointsman-agent.8 > $(STAGING)/pointsman-agent.8.gz
	for arch in $(ARCHES); do \
		VERSION='$(VERSION)' SOURCE_DATE_EPOCH=$(SOURCE_DATE_EPOCH) packaging/agent $$arch $(STAGING) $(PACKAGES); \
	done

.PHONY: package-tool
package-tool: package-clean
	for arch in $(ARCHES); do \
		VERSION='$(VERSION)' SOURCE_DATE_EPOCH=$(SOURCE_DATE_EPOCH) packaging/tool $$arch $(STAGING) $(PACKAGES); \
	done

.PHONY: unit-security
unit-security: ## how exposed the agent's unit is by systemd's count (10: not protected at all), offline
	@systemd-analyze security --offline=true --no-pager packaging/pointsman-agent.service | grep 'exposure level'
