"""Answers that a model is trained on after it gave them itself: drawn, kept, rewarded, dealt to steps."""
