"""The embedded engine: a worker that speaks the Ollama API on top of llama.cpp (xllamacpp, CPU)."""
