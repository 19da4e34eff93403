"""One engine for many users: an HTTP server, and the same on a cluster.

app        routes, errors, keys        ──▶  scheduler  who is next, on which worker
openai, mistral, llama_cpp                  workers    processes that fill
           an API each, JSON ⇄ schema       worker     what runs in one of them
"""
