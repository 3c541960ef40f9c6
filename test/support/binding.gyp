{
  "targets": [
    { "target_name": "support", "sources": ["support.c", "refuse.c"] },
    { "target_name": "refuse", "type": "executable", "sources": ["launcher.c", "refuse.c"] }
  ]
}
