// Java 11 or newer, no library. Wxtoken.call("wx1", "/cgi-bin/get_api_domain_ip", null) recovers from a rejected token.
import java.net.URI;
import java.net.http.*;
import java.time.Duration;
import java.util.regex.*;
public final class Wxtoken {
    static final HttpClient HTTP = HttpClient.newHttpClient();
    static String api = "https://api.weixin.qq.com";
    static String ask(String url, String json, String... headers) throws Exception {
        var request = HttpRequest.newBuilder(URI.create(url)).timeout(Duration.ofSeconds(15)).header("Content-Type", "application/json");
        if (headers.length > 0) request.headers(headers);
        if (json != null) request.POST(HttpRequest.BodyPublishers.ofString(json));
        return HTTP.send(request.build(), HttpResponse.BodyHandlers.ofString()).body();
    }

    static String token(String path, String json) throws Exception {
        String answer = ask(System.getenv("TOKENSERVER") + path, json, "Authorization", "Bearer " + System.getenv("TOKENSERVER_SECRET"));
        Matcher found = Pattern.compile("\"access_token\":\"([^\"]+)\"").matcher(answer);
        if (!found.find()) throw new IllegalStateException("token server: " + answer);
        return found.group(1);
    }

    public static String call(String appid, String path, String json) throws Exception {
        String token = token("/token?appid=" + appid, null); // ask each time: the server answers from memory
        String answer = ask(api + path + "?access_token=" + token, json);
        if (!Pattern.compile("\"errcode\"\\s*:\\s*(40001|40014|42001)\\b").matcher(answer).find()) return answer;
        token = token("/token/reject", "{\"appid\":\"" + appid + "\",\"access_token\":\"" + token + "\"}");
        return ask(api + path + "?access_token=" + token, json); // once more, with the current token
    }
}
