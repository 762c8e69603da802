module github.com/wxtoken/wxtoken

go 1.25.0
