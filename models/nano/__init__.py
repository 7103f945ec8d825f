"""The nano model: a small OLMoE, its generated corpus, its tokenizer and its training."""
