{
  "targets": [
    {
      "target_name": "zerocopy",
      "conditions": [
        ["OS!='linux'", { "type": "none" }],
        ["OS=='linux'", {
          "sources": [
            "native/binding.cc",
            "native/environment.cc",
            "native/engine.cc",
            "native/warmers.cc",
            "native/transfer.cc",
            "native/segment.cc",
            "native/gather_transfer.cc",
            "native/splice_transfer.cc",
            "native/copy_transfer.cc",
            "native/pipe_pool.cc",
            "native/residency.cc",
            "native/file.cc",
            "native/mounts.cc",
            "native/opening.cc",
            "native/syscalls.cc"
          ],
          "include_dirs": ["<!(node -p \"require('node-addon-api').include_dir\")"],
          # SWALLOW: in a worker that is being terminated JavaScript can't run, and no exception can be
          # thrown; node-addon-api would abort the process for that.
          "defines": ["NAPI_VERSION=8", "NODE_ADDON_API_DISABLE_DEPRECATED", "NODE_ADDON_API_DISABLE_CPP_EXCEPTIONS", "NODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS", "_FILE_OFFSET_BITS=64"],
          "cflags_cc": ["-std=c++17", "-Wall", "-Wextra", "-Werror", "-fno-exceptions", "-fno-rtti", "-fvisibility=hidden", "-O2"],
          "cflags_cc!": ["-O3", "-std=gnu++17", "-std=gnu++20"],
          # nodelete: the engine's threads outlive a worker thread that alone has loaded the addon.
          "ldflags": ["-Wl,-z,nodelete", "-pthread"]
        }]
      ]
    }
  ]
}
