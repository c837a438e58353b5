"""Context-Debias (Kaneko and Bollegala 2021): hidden states of target words orthogonal to gendered words."""
