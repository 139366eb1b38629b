"""Models in the file formats of Hugging Face's transformers."""
