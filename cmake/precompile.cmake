# pipecast_precompile(set HEADERS <a.h> ... LIBRARIES their libraries FOR targets that include them)
#
# Each set is compiled once; without PIPECAST_PRECOMPILE nothing happens, and every file must compile
# so too: it includes what it uses (presets dev, tsan and clang see to that). Headers of ours do not
# belong here, for CMake marks what it precompiles as system headers, which never warn. With a
# compiler launcher nothing happens either: ccache would need CCACHE_SLOPPINESS=pch_defines,time_macros
# and gives more than this does.
function(pipecast_precompile set)
  cmake_parse_arguments(arg "" "" "HEADERS;LIBRARIES;FOR;OPTIONS" ${ARGN})
  if(NOT PIPECAST_PRECOMPILE OR CMAKE_CXX_COMPILER_LAUNCHER)
    return()
  endif()
  set(owner pipecast_precompiled_${set})
  if(NOT TARGET ${owner})
    # A target must have a source.
    set(nothing ${CMAKE_CURRENT_BINARY_DIR}/${owner}.cpp)
    file(CONFIGURE OUTPUT ${nothing} CONTENT "")
    add_library(${owner} OBJECT ${nothing})
    target_link_libraries(${owner} PRIVATE ${arg_LIBRARIES} pipecast_options)
    target_compile_options(${owner} PRIVATE ${arg_OPTIONS})
    target_precompile_headers(${owner} PRIVATE ${arg_HEADERS})
  endif()
  foreach(target IN LISTS arg_FOR)
    target_precompile_headers(${target} REUSE_FROM ${owner})
  endforeach()
endfunction()
