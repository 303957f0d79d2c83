# Imported targets tom::torch and tom::mujoco for the libraries inside the installed Python wheels,
# and tom::cxx_runtime for the C++ library that they are loaded with.
#
# torch's own find_package(Torch) is not used on purpose: with a CUDA build of torch it demands the
# CUDA toolkit, which nothing here needs (the operators reach CUDA through ATen's dispatcher), so an
# ordinary `pip install .` would fail on most machines with a GPU.

include("${CMAKE_CURRENT_LIST_DIR}/OnlyFile.cmake")

function(tom_wheel_folder package result)
  execute_process(
    COMMAND "${Python_EXECUTABLE}" -c
      "import importlib.util as u; print(u.find_spec('${package}').submodule_search_locations[0])"
    OUTPUT_VARIABLE folder OUTPUT_STRIP_TRAILING_WHITESPACE RESULT_VARIABLE status)
  if(status)
    message(FATAL_ERROR "tom: ${Python_EXECUTABLE} has no package '${package}'; "
                        "build with `pip install .`, which brings it.")
  endif()
  set(${result} "${folder}" PARENT_SCOPE)
endfunction()

function(tom_wheel_version package result)
  execute_process(
    COMMAND "${Python_EXECUTABLE}" -c
      "import importlib.metadata as m; print(m.version('${package}').split('+')[0])"
    OUTPUT_VARIABLE version OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)
  set(${result} "${version}" PARENT_SCOPE)
endfunction()

tom_wheel_folder(torch TOM_TORCH_DIR)
tom_wheel_version(torch TOM_TORCH_VERSION)
tom_wheel_folder(mujoco TOM_MUJOCO_DIR)
tom_wheel_version(mujoco TOM_MUJOCO_VERSION)

add_library(tom_torch INTERFACE)
add_library(tom::torch ALIAS tom_torch)
target_include_directories(tom_torch SYSTEM INTERFACE
  "${TOM_TORCH_DIR}/include" "${TOM_TORCH_DIR}/include/torch/csrc/api/include")
target_link_libraries(tom_torch INTERFACE
  "${TOM_TORCH_DIR}/lib/libtorch_cpu.so" "${TOM_TORCH_DIR}/lib/libc10.so")

# The compiler may bring the C++ library along instead, because LDFLAGS says -static-libstdc++ or it
# has no other. Of two in one process each has streams and locales of its own: a number written into
# an error message then cuts it off, or crashes.
execute_process(
  COMMAND "${Python_EXECUTABLE}" -c "
import ctypes, sys
ctypes.CDLL(sys.argv[1])
with open('/proc/self/maps') as maps:
    print(next(line.split(maxsplit=5)[5].strip() for line in maps if 'libstdc++.so' in line))"
    "${TOM_TORCH_DIR}/lib/libc10.so"
  OUTPUT_VARIABLE TOM_CXX_RUNTIME OUTPUT_STRIP_TRAILING_WHITESPACE
  RESULT_VARIABLE status ERROR_VARIABLE error)
if(status)
  message(FATAL_ERROR "tom: ${Python_EXECUTABLE} cannot load ${TOM_TORCH_DIR}/lib/libc10.so with its "
                      "C++ library; see that `import torch` works there. ${error}")
endif()
# Where the compiler's own is newer that is linked: if it is more than torch's can do, the loader then
# says which version is wanted, instead of naming a symbol.
separate_arguments(arguments NATIVE_COMMAND "${CMAKE_CXX_COMPILER_ARG1}")
execute_process(
  COMMAND ${CMAKE_CXX_COMPILER} ${arguments} -print-file-name=libstdc++.so.6
  OUTPUT_VARIABLE compiler_library OUTPUT_STRIP_TRAILING_WHITESPACE)
foreach(library compiler_library TOM_CXX_RUNTIME)
  set(${library}_version 0)
  if(EXISTS "${${library}}")  # one that the compiler does not have it names without a folder
    file(REAL_PATH "${${library}}" real)
    string(REGEX REPLACE ".*\\.so\\." "" ${library}_version "${real}")
  endif()
endforeach()
add_library(tom_cxx_runtime INTERFACE)
add_library(tom::cxx_runtime ALIAS tom_cxx_runtime)
if(compiler_library_version VERSION_GREATER TOM_CXX_RUNTIME_version)
  set(TOM_CXX_RUNTIME "${compiler_library}")
endif()
target_link_libraries(tom_cxx_runtime INTERFACE "${TOM_CXX_RUNTIME}")

tom_only_file("${TOM_MUJOCO_DIR}/libmujoco.so.*" TOM_MUJOCO_LIBRARY)
add_library(tom_mujoco INTERFACE)
add_library(tom::mujoco ALIAS tom_mujoco)
target_include_directories(tom_mujoco SYSTEM INTERFACE "${TOM_MUJOCO_DIR}/include")
target_link_libraries(tom_mujoco INTERFACE "${TOM_MUJOCO_LIBRARY}")
