{ "targets": [{ "target_name": "support", "sources": ["support.c"] }] }
