// Go behind Tidegate. `PORT=8000 go run .`, and `tidegate dev --backend http://127.0.0.1:8000/ws/`.
package main

import (
	"bytes"
	"crypto/rand"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"
)

// ANCHOR: calls
var (
	endpoint = strings.TrimSuffix(os.Getenv("TIDEGATE_ENDPOINT"), "/")
	admin    = os.Getenv("TIDEGATE_ADMIN")
	client   = &http.Client{Timeout: 10 * time.Second}
)

// call posts JSON and returns the answer's body.
func call(address string, body any) ([]byte, error) {
	encoded, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	request, err := http.NewRequest("POST", address, bytes.NewReader(encoded))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Authorization", "Bearer "+os.Getenv("TIDEGATE_KEY"))
	answer, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode/100 != 2 {
		err = fmt.Errorf("%s: %s", answer.Status, text)
	}
	return text, err
}

// ANCHOR_END: calls

// ANCHOR: helpers
// push answers counts of who took it: {"delivered":2,"gone":0,"slow":0}.
func push(channel, except string, message any) ([]byte, error) {
	query := url.Values{}
	if except != "" {
		query.Set("except", except)
	}
	return call(endpoint+"/@channels/"+url.PathEscape(channel)+"?"+query.Encode(), message)
}

// pushUser sends to all connections of a user.
func pushUser(user string, message any) ([]byte, error) {
	return call(endpoint+"/@users/"+url.PathEscape(user), message)
}

func issueToken(user, login string) ([]byte, error) {
	parts := strings.Split(endpoint, "/")
	api, stage := parts[len(parts)-2], parts[len(parts)-1]
	return call(admin+"/api/tokens", map[string]string{"api": api, "stage": stage, "user": user, "session": login})
}

func endSession(login string) error {
	_, err := call(admin+"/api/sessions/"+url.PathEscape(login)+"/end", nil)
	return err
}

// ANCHOR_END: helpers

// ANCHOR: events
func connect(w http.ResponseWriter, r *http.Request) {
	if r.URL.Query().Get("channel") != "general" {
		http.Error(w, "no such channel", 403)
	}
}

func message(w http.ResponseWriter, r *http.Request) {
	var data struct{ Action, Text string }
	body := http.MaxBytesReader(w, r.Body, 131072)
	if json.NewDecoder(body).Decode(&data) != nil || data.Action != "say" {
		fmt.Fprint(w, `{"type":"error","text":"actions: say"}`)
		return
	}
	said := map[string]string{"type": "said", "text": data.Text}
	if _, err := push("general", r.Header.Get("connectionId"), said); err != nil {
		http.Error(w, `{"type":"error","text":"try again"}`, 502)
		return
	}
	fmt.Fprint(w, `{"type":"ok"}`)
}

func disconnect(w http.ResponseWriter, r *http.Request) {
	if _, err := push("general", "", map[string]string{"type": "left", "id": r.Header.Get("connectionId")}); err != nil {
		log.Print("push: ", err)
	}
}

// ANCHOR_END: events

// ANCHOR: gateway
var secret = os.Getenv("TIDEGATE_SECRET")

// onlyTheGateway refuses whoever does not know the shared secret.
func onlyTheGateway(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		sent := r.Header.Get("X-Ws-Gateway-Secret")
		if secret != "" && subtle.ConstantTimeCompare([]byte(sent), []byte(secret)) != 1 {
			http.Error(w, "", 403)
			return
		}
		next(w, r)
	}
}

// ANCHOR_END: gateway

// demoLogin stands for your login: who has this cookie is that user.
func demoLogin(w http.ResponseWriter, r *http.Request) {
	id := make([]byte, 16)
	if _, err := rand.Read(id); err != nil {
		http.Error(w, "", 500)
		return
	}
	value := r.PathValue("user") + "." + hex.EncodeToString(id)
	http.SetCookie(w, &http.Cookie{Name: "demo", Value: value, Path: "/", HttpOnly: true})
	w.WriteHeader(204)
}

// currentLogin answers the user and the id of this login, or two empty texts.
func currentLogin(r *http.Request) (user, login string) {
	if cookie, err := r.Cookie("demo"); err == nil {
		user, login, _ = strings.Cut(cookie.Value, ".")
	}
	return user, login
}

func forgetLogin(w http.ResponseWriter) {
	http.SetCookie(w, &http.Cookie{Name: "demo", Path: "/", MaxAge: -1})
}

// ANCHOR: pages
func token(w http.ResponseWriter, r *http.Request) {
	user, login := currentLogin(r)
	if user == "" {
		http.Error(w, "", 403)
		return
	}
	issued, err := issueToken(user, login)
	if err != nil {
		http.Error(w, "try again", 502)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Write(issued)
}

func logout(w http.ResponseWriter, r *http.Request) {
	_, login := currentLogin(r)
	if login != "" {
		forgetLogin(w)
		if err := endSession(login); err != nil {
			http.Error(w, "still connected", 502)
			return
		}
	}
	w.WriteHeader(204)
}

// ANCHOR_END: pages

// posts stands for your database.
type posts struct {
	sync.Mutex
	texts []string
}

type transaction struct{ table *posts }

func (p *posts) Begin() *transaction { p.Lock(); return &transaction{p} }

func (t *transaction) Insert(text string) int {
	t.table.texts = append(t.table.texts, text)
	return len(t.table.texts)
}

func (t *transaction) Commit() error { t.table.Unlock(); return nil }

var db posts

// ANCHOR: commit
func addPost(w http.ResponseWriter, r *http.Request) {
	user, _ := currentLogin(r)
	if user == "" {
		http.Error(w, "", 403)
		return
	}
	tx := db.Begin()
	id := tx.Insert(r.FormValue("text"))
	if err := tx.Commit(); err != nil {
		http.Error(w, "not stored", 500)
		return
	}
	if _, err := push("general", "", map[string]any{"type": "post", "id": id}); err != nil {
		log.Print("push: ", err) // stored all the same
	}
	if _, err := pushUser(user, map[string]any{"type": "saved", "id": id}); err != nil {
		log.Print("push: ", err)
	}
	w.WriteHeader(201)
}

// ANCHOR_END: commit

func main() {
	// ANCHOR: routes
	http.HandleFunc("POST /ws/connect", onlyTheGateway(connect))
	http.HandleFunc("POST /ws/default", onlyTheGateway(message))
	http.HandleFunc("POST /ws/disconnect", onlyTheGateway(disconnect))
	http.HandleFunc("POST /ws-token", token)
	http.HandleFunc("POST /logout", logout)
	http.HandleFunc("POST /posts", addPost)
	// ANCHOR_END: routes
	http.HandleFunc("GET /demo-login/{user}", demoLogin)
	log.Fatal(http.ListenAndServe("127.0.0.1:"+os.Getenv("PORT"), nil))
}
