# Plants one bug in a copy of a kernel's source, builds the kernel tests with it and requires the named
# test to fail. A bug is a file of lines `key: value`:
#   bug:   what is wrong
#   file:  the source that is changed
#   from:  text of one line, which the source holds exactly once
#   to:    what it becomes (may be empty)
#   unit:  the .cu file to compile, where `file` is a header
#   test:  the test that must fail
# Called with -D BUG=FILE -D SOURCE_DIR= -D WORK_DIR= -D COMPILER= -D FLAGS= -D TESTS=PROGRAM -D OBJECTS=a;b -D LIBRARIES=c;d
cmake_minimum_required(VERSION 3.25)

separate_arguments(FLAGS)  # of the build's preset: sanitizers, assertions of the library
file(READ ${BUG} text)
foreach(key bug file from to unit test)
  set(${key} "")
  if(text MATCHES "(^|\n)${key}:[ ]*([^\n]*)")
    set(${key} "${CMAKE_MATCH_2}")
  endif()
endforeach()
string(REPLACE "," "\\," filter "${test}")  # to Catch a comma separates tests
if(unit STREQUAL "")
  set(unit ${file})
endif()

# 1. The source with the bug, in a tree that comes first among the includes.
file(READ ${SOURCE_DIR}/${file} source)
string(REPLACE "${from}" "${to}" mutated "${source}")
string(LENGTH "${source}" length)
string(LENGTH "${from}" from_length)
string(REPLACE "${from}" "" without "${source}")
string(LENGTH "${without}" rest)
math(EXPR lost "${length} - ${rest}")
if(from STREQUAL "" OR NOT lost EQUAL from_length)
  message(FATAL_ERROR "${BUG}: ${file} does not hold this text exactly once: ${from}")
endif()
file(REMOVE_RECURSE ${WORK_DIR})
file(WRITE ${WORK_DIR}/${file} "${mutated}")
if(NOT EXISTS ${WORK_DIR}/${unit})
  file(COPY_FILE ${SOURCE_DIR}/${unit} ${WORK_DIR}/unit.cu)
  set(compiled ${WORK_DIR}/unit.cu)
else()
  set(compiled ${WORK_DIR}/${unit})
endif()

# 2. The tests, linked with it before the library that holds the right one.
execute_process(
  COMMAND ${COMPILER} -std=c++20 -O1 ${FLAGS} -x c++ -I ${WORK_DIR}/src -I ${SOURCE_DIR}/src -Wno-unknown-pragmas -fno-strict-aliasing
    -c ${compiled} -o ${WORK_DIR}/mutated.o
  COMMAND_ERROR_IS_FATAL ANY)
execute_process(
  COMMAND ${COMPILER} ${FLAGS} ${WORK_DIR}/mutated.o ${OBJECTS} ${LIBRARIES} -o ${WORK_DIR}/tests
  COMMAND_ERROR_IS_FATAL ANY)

# 3. The named test exists (that it passes without the bug is its own test), and fails with it.
execute_process(COMMAND ${TESTS} --list-test-names-only ${filter} OUTPUT_VARIABLE found)
string(STRIP "${found}" found)
if(NOT found STREQUAL test)
  message(FATAL_ERROR "${BUG}: there is no test \"${test}\"")
endif()
execute_process(COMMAND ${WORK_DIR}/tests ${filter} OUTPUT_VARIABLE wrong ERROR_VARIABLE wrong
  RESULT_VARIABLE status TIMEOUT 300)
if(status EQUAL 0)
  message(FATAL_ERROR "not caught: ${bug}")
endif()
if(NOT wrong MATCHES "test cases: +1 +\\|.*1 failed")
  message(FATAL_ERROR "${BUG}: ended without a verdict (${status}):\n${wrong}")
endif()
message("caught: ${bug}")
