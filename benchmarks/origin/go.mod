module origin

go 1.27.3
