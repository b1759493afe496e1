{
  'targets': [
    {
      'target_name': 'pcache_native',
      'sources': [
        'src/addon.cc',
        'src/copy.cc',
        'src/cpu.cc',
        'src/crc_run.cc',
        'src/crc32c.cc',
        'src/guard.cc',
        'src/hot.cc',
        'src/huge.cc',
        'src/io.cc',
        'src/mapping.cc',
        'src/hints.cc',
      ],
      'dependencies': [
        "<!(node -p \"require('node-addon-api').targets\"):node_addon_api_except",
      ],
      'defines': ['NAPI_VERSION=8', '_FILE_OFFSET_BITS=64'],
      'cflags_cc': ['-std=c++17', '-O3', '-Wall', '-Wextra', '-Wno-unused-parameter', '-fvisibility=hidden'],
    },
  ],
}
