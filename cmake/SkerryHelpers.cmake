# What every target is compiled with, as one interface library: targets link it and inherit nothing globally.
add_library(sk_options INTERFACE)
target_compile_definitions(sk_options INTERFACE
  _GNU_SOURCE SKERRY_VERSION="${SKERRY_VERSION_TEXT}" ${SKERRY_PLANT_DEFINITIONS})
target_compile_options(sk_options INTERFACE
  -Wall -Wextra -Werror -Wshadow -Wconversion -Wstrict-prototypes -Wformat=2 -fno-omit-frame-pointer)
# clang counts sk_assert(!"why") as a conversion that was not meant; it was.
target_compile_options(sk_options INTERFACE "$<$<C_COMPILER_ID:Clang>:-Wno-string-conversion;-Wno-sign-conversion>")
target_include_directories(sk_options INTERFACE ${CMAKE_SOURCE_DIR})
if(SKERRY_SANITIZER STREQUAL "address")
  target_compile_options(sk_options INTERFACE -fsanitize=address,undefined -fno-sanitize-recover=all)
  target_link_options(sk_options INTERFACE -fsanitize=address,undefined)
elseif(SKERRY_SANITIZER STREQUAL "thread")
  target_compile_options(sk_options INTERFACE -fsanitize=thread)
  target_link_options(sk_options INTERFACE -fsanitize=thread)
elseif(NOT SKERRY_SANITIZER STREQUAL "none")
  message(FATAL_ERROR "SKERRY_SANITIZER is none, address or thread, not '${SKERRY_SANITIZER}'")
endif()

if(SKERRY_FUZZ)
  # The libraries tell the fuzzer which of their branches an input has reached; without it, it is blind.
  target_compile_options(sk_options INTERFACE -fsanitize=fuzzer-no-link)
endif()

# sk_link_time_optimized(targets...): the daemons, and the libraries they are linked from, are optimized as a whole; it takes
# some 10 % off what a command costs. The libraries also keep ordinary code, so that tests link as quickly as ever.
option(SKERRY_LTO "optimize the daemons at link time (gcc)" OFF)
function(sk_link_time_optimized)
  if(NOT SKERRY_LTO)
    return()
  endif()
  set_target_properties(${ARGN} PROPERTIES INTERPROCEDURAL_OPTIMIZATION ON)
  foreach(target ${ARGN})
    target_compile_options(${target} PRIVATE -O3 -ffat-lto-objects)
  endforeach()
endfunction()

# These take a minute, or do so under a sanitizer: they begin first, so that at the end nobody waits for one of them.
set(SK_LONG_TESTS metad/metad_test metad/fsm_group_test shardd/lane_verify_test shardd/ranks_test)

# sk_test(name): <folder>/<name>.c is a cmocka program that tests the folder's library; ctest runs it as
# <folder>/<name>. More libraries follow the name.
function(sk_test name)
  if(SKERRY_FUZZ)
    return() # that build is for the fuzz targets alone
  endif()
  get_filename_component(folder ${CMAKE_CURRENT_SOURCE_DIR} NAME)
  set(target ${folder}_${name})
  add_executable(${target} ${name}.c)
  target_link_libraries(${target} PRIVATE sk_options ${ARGN} PkgConfig::cmocka)
  if(SKERRY_LTO)
    target_link_options(${target} PRIVATE -fno-lto) # else the linker would optimize the whole library again for each
  endif()
  if(SKERRY_SANITIZER STREQUAL "address")
    target_sources(${target} PRIVATE ${CMAKE_SOURCE_DIR}/tests/library_leaks.c)
  endif()
  add_test(NAME ${folder}/${name} COMMAND ${target})
  set_tests_properties(${folder}/${name} PROPERTIES TIMEOUT 300)
  if(${folder}/${name} IN_LIST SK_LONG_TESTS)
    set_tests_properties(${folder}/${name} PROPERTIES COST 100)
  endif()
endfunction()

# sk_fuzz(name): <name>.c defines LLVMFuzzerTestOneInput; its seeds lie under corpus/<name>.
function(sk_fuzz name)
  add_executable(fuzz_${name} ${name}.c)
  target_compile_options(fuzz_${name} PRIVATE -fsanitize=fuzzer)
  target_link_options(fuzz_${name} PRIVATE -fsanitize=fuzzer)
  target_link_libraries(fuzz_${name} PRIVATE sk_options ${ARGN})
endfunction()

# sk_embed(header name=file...): makes <binary dir>/embedded/<header>, with the bytes of each file as `<name>_file`. An array made here
# rather than .incbin or ld -b binary: it is the same for every compiler, goes through link-time optimization and ccache as any
# source, and is there as soon as the build is configured, for clang-tidy.
function(sk_embed header)
  set(text "#pragma once\n")
  foreach(pair ${ARGN})
    string(REGEX MATCH "^([a-z_]+)=(.*)$" matched "${pair}")
    set(name ${CMAKE_MATCH_1})
    set(file ${CMAKE_MATCH_2})
    set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${file})
    file(READ ${file} bytes HEX)
    string(REGEX REPLACE "(..)" "0x\\1," bytes "${bytes}")
    string(REGEX REPLACE "(0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,)" "\\1\n" bytes "${bytes}")
    string(APPEND text "static const unsigned char ${name}_file[] = {\n${bytes}};\n")
  endforeach()
  file(CONFIGURE OUTPUT ${CMAKE_CURRENT_BINARY_DIR}/embedded/${header} CONTENT "${text}" @ONLY)
endfunction()
