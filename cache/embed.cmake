# Writes OUT: the scripts as C strings with the digests under which Redis knows them. Run at
# configure time; the scripts are configure dependencies.
function(rg_embed_scripts OUT)
  set(text "/* Written by cache/embed.cmake. */\n#include \"cache/redis_script.h\"\n\n")
  foreach(file ${ARGN})
    set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${file})
    get_filename_component(name ${file} NAME_WE)
    file(SHA1 ${file} sha1)
    file(READ ${file} hex HEX)
    string(REGEX REPLACE "([0-9a-f][0-9a-f])" "\\\\x\\1" bytes "${hex}")
    string(REPLACE "\\x0a" "\\x0a\"\n    \"" bytes "${bytes}")
    string(APPEND text "const struct rg_redis_script rg_redis_script_${name} = {\n"
           "    \"${sha1}\",\n    \"${bytes}\"};\n")
  endforeach()
  file(CONFIGURE OUTPUT ${OUT} CONTENT "${text}" @ONLY)
endfunction()
