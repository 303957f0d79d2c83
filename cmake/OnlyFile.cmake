# The one file that a pattern stands for. file(GLOB) takes none or several without a word, and the
# linker would then name what is missing only by its symbols.
function(tom_only_file pattern result)
  file(GLOB found "${pattern}")
  list(LENGTH found count)
  if(NOT count EQUAL 1)
    list(JOIN found " " names)
    message(FATAL_ERROR "tom: ${pattern} must be exactly one file, but it is ${count}; install the "
                        "package that they are of again with `pip install --force-reinstall`. "
                        "${names}")
  endif()
  set(${result} "${found}" PARENT_SCOPE)
endfunction()
