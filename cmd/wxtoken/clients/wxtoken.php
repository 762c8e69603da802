<?php
// PHP 8, no extension. wechat('wx1', '/cgi-bin/get_api_domain_ip') is a call that recovers from a rejected token.
function tokenserver(string $method, string $path, ?array $body = null): string {
    $answer = @file_get_contents(getenv('TOKENSERVER') . $path, false, stream_context_create(['http' => [
        'method' => $method,
        'header' => 'Authorization: Bearer ' . getenv('TOKENSERVER_SECRET') . "\r\nContent-Type: application/json",
        'content' => $body ? json_encode($body) : '',
        'timeout' => 15,
        'ignore_errors' => true, // read the body of an error as well
    ]]));
    $answer = json_decode($answer ?: '', true);
    return $answer['access_token'] ?? throw new RuntimeException('token server: ' . ($answer['errmsg'] ?? 'no answer'));
}

function wechat(string $appid, string $path, ?array $json = null, string $api = 'https://api.weixin.qq.com'): array {
    $http = $json === null ? ['method' => 'GET'] : ['method' => 'POST', 'header' => 'Content-Type: application/json',
        'content' => json_encode($json, JSON_UNESCAPED_UNICODE)];
    $call = fn(string $token) => json_decode(file_get_contents("$api$path?access_token=" . urlencode($token), false,
        stream_context_create(['http' => $http + ['timeout' => 15]])), true);
    $token = tokenserver('GET', '/token?appid=' . urlencode($appid)); // ask each time: the server answers from memory
    $answer = $call($token);
    if (in_array($answer['errcode'] ?? 0, [40001, 40014, 42001])) { // once more, with the current token
        $answer = $call(tokenserver('POST', '/token/reject', ['appid' => $appid, 'access_token' => $token]));
    }
    return $answer;
}
