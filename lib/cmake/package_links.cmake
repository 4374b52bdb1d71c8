# The links of the package from where a system looks to /opt/plumb. cpack runs this after the installation into a folder.
foreach(path bin/plumb share/man/man1/plumb.1 share/bash-completion/completions/plumb)
  cmake_path(GET path PARENT_PATH folder)
  file(MAKE_DIRECTORY ${CPACK_TEMPORARY_DIRECTORY}/usr/${folder})
  file(CREATE_LINK /opt/plumb/${path} ${CPACK_TEMPORARY_DIRECTORY}/usr/${path} SYMBOLIC)
endforeach()
