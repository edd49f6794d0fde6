# The libraries Skerry is built on; docs/ARCHITECTURE.md says why each. scripts/install-deps installs them.
find_package(PkgConfig REQUIRED)
find_package(Threads REQUIRED)
find_package(nng REQUIRED)
pkg_check_modules(msgpack REQUIRED IMPORTED_TARGET msgpack)
pkg_check_modules(lmdb REQUIRED IMPORTED_TARGET lmdb)
pkg_check_modules(uv REQUIRED IMPORTED_TARGET libuv)
pkg_check_modules(xxhash REQUIRED IMPORTED_TARGET libxxhash)
pkg_check_modules(yaml REQUIRED IMPORTED_TARGET yaml-0.1)
pkg_check_modules(edit REQUIRED IMPORTED_TARGET libedit)
pkg_check_modules(jansson REQUIRED IMPORTED_TARGET jansson)
pkg_check_modules(sodium REQUIRED IMPORTED_TARGET libsodium)
pkg_check_modules(microhttpd REQUIRED IMPORTED_TARGET libmicrohttpd)
# What libmicrohttpd's TLS is made of; its development files come with libmicrohttpd-dev.
pkg_check_modules(gnutls REQUIRED IMPORTED_TARGET gnutls)
# What nng's TLS is made of; its development files come with libnng-dev.
find_library(MBEDTLS_LIBRARY mbedtls REQUIRED)
find_library(MBEDX509_LIBRARY mbedx509 REQUIRED)
find_library(MBEDCRYPTO_LIBRARY mbedcrypto REQUIRED)
pkg_check_modules(cmocka REQUIRED IMPORTED_TARGET cmocka)

# 0.15, which bookworm itself carries, loses committed entries (see metad/raft_loop.h).
pkg_check_modules(raft IMPORTED_TARGET raft>=0.22)
if(NOT raft_FOUND)
  message(FATAL_ERROR "libraft 0.22 or newer is needed: run scripts/install-deps (it is in bookworm-backports)")
endif()

# Backports are no dependency of a program that has libraft in itself (its licence, LGPLv3, has an exception for that).
option(SKERRY_RAFT_ARCHIVE "link libraft.a in place of the shared library" OFF)
if(SKERRY_RAFT_ARCHIVE)
  find_library(raft_archive libraft.a HINTS ${raft_LIBRARY_DIRS} REQUIRED)
  pkg_check_modules(lz4 REQUIRED IMPORTED_TARGET liblz4)
  set_target_properties(PkgConfig::raft PROPERTIES
    INTERFACE_LINK_LIBRARIES "${raft_archive};PkgConfig::uv;PkgConfig::lz4")
endif()
