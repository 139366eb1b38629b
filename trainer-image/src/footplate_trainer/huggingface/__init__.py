"""Models in the files that Hugging Face's transformers reads and writes."""
