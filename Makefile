# pg_seal: builds with PGXS (the server's side) and CMake (core library, pgseal command, unit tests, benchmarks).
#
#   make                      everything that is installed
#   make install              into the PostgreSQL that PG_CONFIG names (DESTDIR is honoured)
#   make test | demo | bench  run without any preparation by hand
#   make help                 lists the targets; V=1 shows whole command lines
#
# Object files and the CMake tree lie under build/; only pg_seal.so stands beside this file, where PGXS wants it.

PG_CONFIG ?= pg_config
CMAKE ?= cmake
JOBS ?= $(shell nproc 2>/dev/null || echo 1)
BUILD_TYPE ?= RelWithDebInfo

# Without a -j of the caller's, use every processor.
ifeq ($(filter -j% --jobserver%,$(MAKEFLAGS)),)
MAKEFLAGS += -j$(JOBS)
endif

EXTENSION = pg_seal
MODULE_big = pg_seal
DATA = $(wildcard sql/pg_seal--*.sql)

PG_SOURCES := $(sort $(shell find src/pg -name '*.cpp' 2>/dev/null))
OBJS = $(PG_SOURCES:src/pg/%.cpp=build/pg/%.o)
CORE_LIBRARY = build/cmake/libseal_core.a
COMMAND = build/cmake/pgseal
PRELOAD_LIBRARY = build/cmake/libseal_preload.so
MAN_PAGE = $(wildcard docs/pgseal.1)

# The C++ runtime comes from g++'s library because PGXS links with gcc. Symbols of the static core stay inside the module.
SHLIB_LINK = $(CORE_LIBRARY) -Wl,--exclude-libs,ALL -lcrypto -lstdc++
EXTRA_CLEAN = build

# `all` is PGXS's; the command is ours.
.DEFAULT_GOAL := all

PGXS := $(wildcard $(shell $(PG_CONFIG) --pgxs 2>/dev/null))
ifneq ($(PGXS),)

all: $(COMMAND) $(PRELOAD_LIBRARY)
# PGXS would also compile bitcode for the JIT compiler, of which a C++20 module has no use.
override with_llvm = no
include $(PGXS)
override with_llvm = no

# PostgreSQL's headers are system headers here: their warnings are not ours. -Wno-register and -Wno-volatile: C in C++20.
# PostgreSQL 15 leaves PGDLLEXPORT empty; with hidden visibility the server's entry points need it.
SEAL_CPPFLAGS = -D'PGDLLEXPORT=__attribute__((visibility("default")))' -Iinclude -Isrc -Isrc/pg $(patsubst -I%,-isystem %,$(filter -I/%,$(CPPFLAGS))) $(filter-out -I%,$(CPPFLAGS))
SEAL_CXXFLAGS = -std=c++20 -O2 -g -fPIC -fvisibility=hidden -fvisibility-inlines-hidden \
	-fno-strict-aliasing -fwrapv -fno-omit-frame-pointer -fstack-protector-strong \
	-Wall -Wextra -Werror -Wno-register -Wno-volatile $(SEAL_EXTRA_CXXFLAGS)

build/pg/%.o: src/pg/%.cpp Makefile
	@mkdir -p $(@D)
	$(if $(V),,@echo "CXX  $<"; )$(CXX) $(SEAL_CXXFLAGS) $(SEAL_CPPFLAGS) -MMD -MP -c -o $@ $<

-include $(OBJS:.o=.d)

# A changed or added source file, or a changed core, links anew.
$(shlib): $(CORE_LIBRARY) build/pg/sources
build/pg/sources: force
	@mkdir -p $(@D)
	@echo '$(PG_SOURCES)' | cmp -s - $@ || echo '$(PG_SOURCES)' >$@

install: install-command
installdirs: installdirs-command
uninstall: uninstall-command

.PHONY: install-command installdirs-command uninstall-command
# The server looks for pgseal beside its own binary, pgseal for the preload library among the server's; the man page stands beside the other
# tools' pages.
install-command: $(COMMAND) $(PRELOAD_LIBRARY) installdirs-command
	$(INSTALL_PROGRAM) $(COMMAND) '$(DESTDIR)$(bindir)/pgseal'
	$(INSTALL_SHLIB) $(PRELOAD_LIBRARY) '$(DESTDIR)$(pkglibdir)/libseal_preload.so'
ifneq ($(MAN_PAGE),)
	$(INSTALL_DATA) $(MAN_PAGE) '$(DESTDIR)$(mandir)/man1/pgseal.1'
endif
installdirs-command:
	$(MKDIR_P) '$(DESTDIR)$(bindir)' '$(DESTDIR)$(pkglibdir)' $(if $(MAN_PAGE),'$(DESTDIR)$(mandir)/man1')
uninstall-command:
	rm -f '$(DESTDIR)$(bindir)/pgseal' '$(DESTDIR)$(pkglibdir)/libseal_preload.so' '$(DESTDIR)$(mandir)/man1/pgseal.1'

else # no server development files: only the targets that fetch what they need

all install uninstall:
	@echo 'make: no PostgreSQL development files found through "$(PG_CONFIG)"' >&2
	@echo 'Install what test/packages lists, or name another one: make PG_CONFIG=/path/to/pg_config' >&2
	@exit 1
clean:
	rm -rf build pg_seal.so

endif

# --- core library, command, unit tests, benchmarks: CMake decides what is out of date ---
.PHONY: core force
force:
# One build of the tree at a time, without the outer make's job server, which CMake's own make does not join.
CMAKE_BUILD = env -u MAKEFLAGS -u MAKELEVEL -u MFLAGS flock build/cmake.lock $(CMAKE) --build build/cmake --parallel $(JOBS)
build/cmake/CMakeCache.txt: CMakeLists.txt
	@mkdir -p build
	$(CMAKE) -S . -B build/cmake -DCMAKE_BUILD_TYPE=$(BUILD_TYPE) -DSEAL_WERROR=ON
core: build/cmake/CMakeCache.txt
	@$(CMAKE_BUILD) --target seal_core pgseal seal_preload
$(CORE_LIBRARY) $(COMMAND) $(PRELOAD_LIBRARY): core
	@:

# --- checks ---
.PHONY: test test-all core-regress demo bench check-layers check-format sanitize unit help
test:
	@test/run
test-all:
	@test/run --all
core-regress:
	@test/run --only core
demo:
	@demo/run
bench:
	@test/bench/run $(BENCH_ARGS)
unit: build/cmake/CMakeCache.txt
	@$(CMAKE_BUILD)
	cd build/cmake && ctest --output-on-failure --parallel $(JOBS)
check-layers:
	@test/check_layers
check-format:
	@test/check_format
sanitize:
	@test/run --only sanitize

help:
	@echo 'make               build pg_seal.so and the pgseal command'
	@echo 'make install       install both (PG_CONFIG=..., DESTDIR=...)'
	@echo 'make uninstall     remove them'
	@echo 'make clean         remove what was built'
	@echo 'make test          every test, on throwaway servers; needs nothing prepared by hand'
	@echo 'make test-all      the same with more rounds, then PostgreSQL'"'"'s own suites, the sanitizer build and the format check'
	@echo 'make core-regress  PostgreSQL'"'"'s own regression and isolation suites on a sealed cluster, compared with a plain one'
	@echo 'make unit          only the unit tests of the core'
	@echo 'make sanitize      core and unit tests under AddressSanitizer and UBSan'
	@echo 'make check-layers  the rules of docs/architecture.md on who may include whom'
	@echo 'make check-format  clang-format over the sources'
	@echo 'make bench         benchmarks: the core, and a sealed against a plain tablespace'
	@echo 'make demo          a guided tour on real data, under five minutes'
