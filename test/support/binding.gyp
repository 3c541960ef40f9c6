{
  "targets": [
    { "target_name": "support", "sources": ["support.c", "refuse.c"] },
    { "target_name": "refuse", "type": "executable", "sources": ["launcher.c", "refuse.c"] },
    {
      "target_name": "zerocopy_seam",
      "sources": ["seam.cc", "../native/faults.cc", "<!@(ls ../../native/*.cc | grep -v /binding.cc)"],
      "include_dirs": ["../../native", "<!(node -p \"require('node-addon-api').include_dir\")"],
      "defines": ["ZEROCOPY_SEAM", "NAPI_VERSION=8", "NODE_ADDON_API_DISABLE_DEPRECATED", "NODE_ADDON_API_DISABLE_CPP_EXCEPTIONS", "NODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS", "_FILE_OFFSET_BITS=64"],
      "cflags_cc": ["-std=c++17", "-Wall", "-Wextra", "-Werror", "-fno-exceptions", "-fno-rtti", "-fvisibility=hidden", "-O1"],
      "cflags_cc!": ["-O3", "-std=gnu++17", "-std=gnu++20"],
      "ldflags": ["-Wl,-z,nodelete", "-pthread"]
    }
  ]
}
