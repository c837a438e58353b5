"""Auto-Debias (Guo et al. 2022): prompts after which a masked PLM speaks differently of men and women."""
