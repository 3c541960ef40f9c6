// Loads a library, all of whose symbols must be found, and looks for the entry of an addon.
#include <dlfcn.h>
#include <stdio.h>

int main(int argc, char** argv) {
  void* library = argc == 2 ? dlopen(argv[1], RTLD_NOW) : NULL;
  if (library && dlsym(library, "napi_register_module_v1")) return 0;
  fprintf(stderr, "%s\n", dlerror());
  return 1;
}
