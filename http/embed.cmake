# Writes OUT: a C table of the given FILES. Run at configure time; the files are configure
# dependencies, so that a changed page is a changed program.
function(rg_embed OUT)
  set(arrays "")
  set(rows "")
  set(number 0)
  foreach(file ${ARGN})
    set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${file})
    get_filename_component(name ${file} NAME)
    file(READ ${file} hex HEX)
    file(SIZE ${file} size)
    file(SHA256 ${file} sum)
    string(SUBSTRING ${sum} 0 32 tag)
    string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${hex}")
    string(REGEX REPLACE "((0x[0-9a-f][0-9a-f],)(0x[0-9a-f][0-9a-f],)?(0x[0-9a-f][0-9a-f],)?(0x[0-9a-f][0-9a-f],)?(0x[0-9a-f][0-9a-f],)?(0x[0-9a-f][0-9a-f],)?(0x[0-9a-f][0-9a-f],)?(0x[0-9a-f][0-9a-f],)?)"
           "\\1\n" bytes "${bytes}")
    string(APPEND arrays "static const unsigned char file_${number}[] = {\n${bytes}0};\n")
    string(APPEND rows "    {\"${name}\", \"\\\"${tag}\\\"\", file_${number}, ${size}},\n")
    math(EXPR number "${number} + 1")
  endforeach()
  file(CONFIGURE OUTPUT ${OUT} CONTENT
"/* Written by http/embed.cmake. */
#include \"http/assets.h\"

${arrays}
const struct rg_asset rg_assets[] = {
${rows}    {NULL, NULL, NULL, 0},
};
const size_t rg_assets_n = ${number};
" @ONLY)
endfunction()
