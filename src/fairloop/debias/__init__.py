"""What can be done against gender bias in a pre-trained language model: Fair-Gender and the baselines."""
