# Writes tom/_build_info.py: what the package was built for, checked at import before any native code
# is loaded.

# Which instruction sets the compiler may use by itself: those of -march=native, of the user's
# CXXFLAGS, or of neither. It says so in its predefined macros. (ARG1 is what follows in a CXX such
# as "ccache g++".)
separate_arguments(flags NATIVE_COMMAND "${CMAKE_CXX_COMPILER_ARG1} ${CMAKE_CXX_FLAGS}")
if(TOM_NATIVE_ARCH)
  list(APPEND flags -march=native)
endif()
execute_process(
  COMMAND ${CMAKE_CXX_COMPILER} ${flags} -dM -E -x c++ /dev/null
  OUTPUT_VARIABLE macros RESULT_VARIABLE status)
if(status)
  message(WARNING "tom: the compiler does not tell its instruction sets, so that nothing will "
                  "notice at import if the build is carried to another processor.")
  set(macros "")
endif()
string(REGEX MATCHALL "__(AVX|FMA|BMI|LZCNT|MOVBE|GFNI)[0-9A-Z]*__" macros "${macros}")
list(JOIN macros " " TOM_INSTRUCTION_SETS)
string(REPLACE "__" "" TOM_INSTRUCTION_SETS "${TOM_INSTRUCTION_SETS}")

file(CONFIGURE OUTPUT "${PROJECT_BINARY_DIR}/_build_info.py" CONTENT [[
"""What the native parts were built for; written by CMake."""

TORCH_VERSION = "@TOM_TORCH_VERSION@"
MUJOCO_VERSION = "@TOM_MUJOCO_VERSION@"
INSTRUCTION_SETS = "@TOM_INSTRUCTION_SETS@"
]] @ONLY)
install(FILES "${PROJECT_BINARY_DIR}/_build_info.py" DESTINATION tom)
message(STATUS "tom: torch ${TOM_TORCH_VERSION}, MuJoCo ${TOM_MUJOCO_VERSION}, "
               "instruction sets: ${TOM_INSTRUCTION_SETS}")
