"""Published measures of bias and language skill of a pre-trained model: data, protocol, score."""
